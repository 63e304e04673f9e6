"""What Hypothesis draws: small numbers and short lists."""

from hypothesis import strategies as st

from tests.model import posix
from tests.model.nodes import Spec
from tests.model.spelling import POSIX_NAMES, SEGMENTS

pick = st.integers(0, 30)
names = st.sampled_from(POSIX_NAMES)
new_keys = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3).map(b"/".join).filter(bool)
keys = st.one_of(pick, new_keys)
"""An existing one by its number, or one that may be new."""
sizes = st.sampled_from((0, 1, 5, 4096, 16384, 16385, 70_000, 1_100_000))
offsets = st.sampled_from((0, 1, 4096, 20_000, 300_000))
seeds = st.integers(0, 9)
modes = st.sampled_from((0o644, 0o600, 0o755, 0o711))
conditions = st.sampled_from(("*", "right", "wrong"))
specs = st.builds(
    Spec,
    content_type=st.sampled_from((None, "text/x-test")),
    metadata=st.sampled_from(((), (("colour", "green"),), (("a-b", "1"), ("colour", "red")))),
    cache_control=st.sampled_from((None, "no-cache")),
    storage_class=st.sampled_from(("STANDARD", "STANDARD_IA")),
)
attributes = st.sampled_from((b"user.plain", posix.TYPE_XATTR, posix.META_XATTR + b"colour"))
values = st.sampled_from((None, b"", b"text/plain", b"some value"))
