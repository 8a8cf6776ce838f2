"""`python -m esr`, and so `accelerate launch -m esr`."""

from esr.cli.main import main

if __name__ == "__main__":
    main()
