"""Scripts to paste: `test_examples.py` runs each against a worker."""
