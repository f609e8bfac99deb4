import pytest
import torch
from torch import nn

from solo_frossl.methods.backbones import Stem, build_backbone


@pytest.mark.parametrize(
    ("stem", "size", "side"),
    [("cifar", 32, 32), ("imagenet", 32, 8), (Stem(3, 1, True), 64, 32), (Stem(7, 2, False), 32, 16)],
)
def test_the_stem_gives_the_feature_map_it_should(stem, size, side):
    backbone = build_backbone("resnet18", stem)
    sides = []
    backbone.layer1.register_forward_pre_hook(lambda module, args: sides.append(args[0].shape[-1]))
    assert backbone(torch.zeros(2, 3, size, size)).shape == (2, 512)
    assert sides == [side]


@pytest.mark.parametrize(("padding", "side"), [(None, 32), (1, 32), (0, 30), (2, 34)])
def test_the_padding_of_the_stem(padding, side):
    """None is half of the kernel; 2 is what solo-learn's ResNets for CIFAR have."""
    conv = build_backbone("resnet18", Stem(3, 1, False, padding)).conv1
    assert conv(torch.zeros(1, 3, 32, 32)).shape[-1] == side


@pytest.mark.parametrize(
    ("name", "width", "features", "stages"),
    [
        ("resnet18", 1.0, 512, [64, 128, 256, 512]),
        ("resnet18", 0.25, 128, [16, 32, 64, 128]),
        ("resnet18", 2.0, 1024, [128, 256, 512, 1024]),
        ("resnet50", 0.5, 1024, [128, 256, 512, 1024]),
        ("test_resnet", 0.5, 48, [16, 24, 96, 48]),
    ],
)
def test_width_multiplies_the_channels_of_the_stages(name, width, features, stages):
    backbone = build_backbone(name, "imagenet", width=width).eval()
    assert backbone.num_features == features
    outputs = []
    for stage in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
        stage.register_forward_hook(lambda module, args, output: outputs.append(output.shape[1]))
    assert backbone(torch.zeros(1, 3, 32, 32)).shape == (1, features)
    assert outputs == stages
    assert backbone.bn1.num_features == build_backbone(name).bn1.num_features


def test_a_narrow_resnet_is_small():
    """In half precision a quarter of the width is about a megabyte and a half."""
    narrow = build_backbone("resnet18", "cifar", width=0.25)
    assert 2 * sum(p.numel() for p in narrow.parameters()) < 1.5e6
    assert all((m.weight == 1).all() for m in narrow.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("width", [0.0, -1.0])
def test_an_impossible_width_is_refused(width):
    with pytest.raises(ValueError, match="it must be above 0"):
        build_backbone("resnet18", width=width)
    with pytest.raises(ValueError, match="width is for ResNets, and the backbone is 'convnext_atto'"):
        build_backbone("convnext_atto", width=0.5)


def test_channels_and_features():
    backbone = build_backbone("resnet18", "cifar", channels=1)
    assert backbone.conv1.weight.shape == (64, 1, 3, 3)
    assert backbone.num_features == 512


def test_residual_branches_start_at_one_as_in_torchvision():
    norms = [m for n, m in build_backbone("resnet18").named_modules() if n.endswith("bn2")]
    assert len(norms) == 8
    assert all((m.weight == 1).all() for m in norms if isinstance(m, nn.BatchNorm2d))


def test_residual_branches_start_at_zero_when_asked():
    backbone = build_backbone("resnet18", zero_init_residual=True)
    assert all((m.weight == 0).all() for n, m in backbone.named_modules() if n.endswith("bn2"))
    assert (backbone.bn1.weight == 1).all()
    with pytest.raises(ValueError, match="zero_init_residual is for ResNets"):
        build_backbone("convnext_atto", zero_init_residual=True)


def test_parameters_are_as_many_as_a_resnet18_has_without_its_classifier():
    assert sum(p.numel() for p in build_backbone("resnet18").parameters()) == 11_689_512 - 513_000


@pytest.mark.parametrize(
    ("name", "features"),
    [("resnet50", 2048), ("vit_tiny_patch16_224", 192), ("convnext_atto", 320), ("swin_tiny_patch4_window7_224", 768)],
)
def test_any_timm_model_gives_its_features_for_crops_of_several_sizes(name, features):
    backbone = build_backbone(name, image_size=64).eval()
    assert backbone.num_features == features
    with torch.no_grad():
        for size in (64, 32):
            assert backbone(torch.randn(2, 3, size, size)).shape == (2, features)


def test_a_vit_s_positions_are_interpolated_for_other_sizes():
    """A smaller picture gets the positions of the whole, made smaller; not those of a corner."""
    backbone = build_backbone("vit_tiny_patch16_224", image_size=64).eval()
    nn.init.normal_(backbone.pos_embed)
    seen = []
    backbone.blocks.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    nn.init.zeros_(backbone.patch_embed.proj.weight)
    nn.init.zeros_(backbone.patch_embed.proj.bias)
    with torch.no_grad():
        backbone(torch.zeros(1, 3, 32, 32))
    grid = backbone.pos_embed[:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(grid, size=(2, 2), mode="bicubic", antialias=True)
    torch.testing.assert_close(seen[0][:, 1:], expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_other_families_keep_their_own_stem():
    assert build_backbone("convnext_atto").num_features == 320
    with pytest.raises(ValueError, match="'convnext_atto' has no single-convolution ResNet stem"):
        build_backbone("convnext_atto", "cifar")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean.*resnet18"):
        build_backbone("resnet_18")


@pytest.mark.parametrize("bad", [{"kernel_size": 4}, {"kernel_size": 0}, {"stride": 0}, {"padding": -1}])
def test_an_impossible_stem_is_refused(bad):
    with pytest.raises(ValueError, match=f"stem.{next(iter(bad))} is"):
        Stem(**bad)
