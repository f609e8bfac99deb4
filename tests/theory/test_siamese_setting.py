"""Which of the eight Siamese losses there are."""

import pytest

from solo_frossl.theory.siamese import Siamese


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Siamese("manhattan"), "similarity is 'manhattan': it must be one of euclidean, cosine"),
        (lambda: Siamese("cosine", "iso_loss"), "variant is 'iso_loss': it must be one of plain, iso"),
        (lambda: Siamese("cosine", alpha=0.0), "alpha is 0.0: it must be above 0"),
        (lambda: Siamese("cosine", sigma=-0.1), "sigma is -0.1"),
        (lambda: Siamese("cosine", sigma=float("nan")), "sigma is nan"),
    ],
)
def test_refused_with_the_thing_and_the_remedy(make, message):
    with pytest.raises(ValueError, match=message):
        make()
