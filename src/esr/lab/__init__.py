"""The lab: a model system of tiny transformers on a generated, verifiable task (docs/lab.md)."""
