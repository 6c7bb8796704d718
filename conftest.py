"""Runs the examples of README.md and docs/ as tests."""

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()], patterns=["README.md", "docs/*.md"]
).pytest()

# Programs for another Python, which has torch; there is no example in them.
collect_ignore_glob = ["experiments/*/torch_worker.py"]
