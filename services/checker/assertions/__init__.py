"""The language of assertions, one for all kinds: read when a service is saved, judged after every check. See docs/assertions.md.

Here: reading.py takes what was written; comparisons.py says what holds; answers.py what is looked at; judging.py what follows.
"""

from services.checker.assertions.judging import Verdict, elsewhere, is_long_work, judge, verdicts
from services.checker.assertions.reading import Assertion, read_assertions

__all__ = ["Assertion", "Verdict", "elsewhere", "is_long_work", "judge", "read_assertions", "verdicts"]
