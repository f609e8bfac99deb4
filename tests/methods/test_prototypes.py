"""SwAV's and DINO's scores, and which views are assigned."""

import pytest
import torch
from small_methods import build

from solo_frossl.methods.heads import LinearScores, Prototypes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [Prototypes, lambda d, k: LinearScores(d, k, bias=False)], ids=["DINO", "SwAV"])
def test_scores_are_float32_under_autocast(make, dtype):
    torch.manual_seed(0)
    prototypes, z = make(32, 24), torch.randn(8, 32)
    expected = prototypes(z)
    with torch.autocast("cpu", dtype):
        torch.testing.assert_close(prototypes(z), expected, rtol=0, atol=0)
        half = prototypes(z.to(dtype))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, prototypes(z.to(dtype).float()), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["swav", "dino"])
def test_more_global_views_than_views_are_refused(name):
    model, _ = build(name, "--model.global_views=3")
    with pytest.raises(ValueError, match=r"^model\.global_views is 3: it must be from 1 to 2"):
        model.check_views(2)
    model.check_views(3)
