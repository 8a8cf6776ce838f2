#!/usr/bin/env bash
# Every analysis of the headline pair at its full setting, on the first seed of studies/lab/main.yaml; records go to results/lab/.
#   bash studies/lab/analyses.sh runs/studies/pool/esr-seed1-* runs/studies/pool/full-seed1-*
set -euo pipefail
run=$1 full=$2
mkdir -p results/lab
esr analyze decay "$run" --samples 2 --lengths 5,10,25,50,75,100 --json > results/lab/decay.json
esr analyze profile "$run" --problems 96 --json > results/lab/profile.json
esr analyze prefix-swap "$run" --samples 2 --json > results/lab/prefix-swap.json
esr analyze submode "$run" --with "$full" --json > results/lab/submode.json
esr analyze submode "$run" --with "$full" --trajectories shared --json > results/lab/submode-shared.json
esr analyze selection "$run" --k 30 --json > results/lab/selection-shares.json
esr analyze rollouts "$run" > /dev/null
esr analyze lengths "$run" --with "$full" --json > results/lab/lengths.json
esr analyze efficiency "$run" --with "$full" --json > results/lab/efficiency.json
