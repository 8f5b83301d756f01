"""The example workflows and blueprints, written from descriptions: ``python -m bench.templates``."""
