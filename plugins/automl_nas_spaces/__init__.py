"""Search spaces: those of published papers for images, and networks for signals, tokens and tables."""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_spaces(register: Register) -> None:
    """Register the spaces."""
    register(
        "shufflenet_v2",
        "automl_nas_spaces.shufflenet_v2:shufflenet_v2",
        summary="the block search of SPOS: ShuffleNetV2 with four candidates for every block, for images of any size",
    )
    register(
        "shufflenet_v2_channels",
        "automl_nas_spaces.channels:ShuffleNetV2Channels",
        summary="the joint search of blocks and channels of SPOS: a candidate and a width for every block",
    )
    register(
        "resnet",
        "automl_nas_spaces.resnet.space:resnet",
        summary="ResNets with searched widths, bottlenecks and depths: the ResNet-50 space of once-for-all, and others",
    )
    register(
        "signal_cnn",
        "automl_nas_spaces.sequences:signal_cnn",
        summary="convolutional networks for signals (channels, length): kernel, hidden width and depth",
    )
    register(
        "conv1d",
        "automl_nas_spaces.conv1d:conv1d",
        summary="convolutional networks for signals that share one set of weights: kernel, dilation, width and depth",
    )
    register(
        "token_cnn",
        "automl_nas_spaces.sequences:token_cnn",
        summary="convolutional networks for sequences of integer tokens: kernel, hidden width and depth",
    )
    register(
        "mlp",
        "automl_nas_spaces.mlp:mlp",
        summary="residual multilayer perceptrons for tables: widths, depth, activation, normalisation",
    )
    register(
        "efficientnet",
        "automl_nas_spaces.mobile.efficientnet:efficientnet",
        summary="EfficientNet-B0 with a kernel and an expansion for every block and a depth for every stage",
    )
    register(
        "fbnet",
        "automl_nas_spaces.mobile.fbnet:fbnet",
        summary="FBNet: nine candidates for every block, with weights of their own",
    )
    register(
        "mobilenet_v2",
        "automl_nas_spaces.mobile.mobilenet_v2:mobilenet_v2",
        summary="MobileNetV2 with a kernel and an expansion for every block, a depth and a width for every stage",
    )
    register(
        "mobilenet_v3",
        "automl_nas_spaces.mobile.mobilenet_v3:mobilenet_v3",
        summary="once-for-all: MobileNetV3 with a kernel and an expansion for every block and a depth for every stage",
    )
    register(
        "proxylessnas",
        "automl_nas_spaces.mobile.proxylessnas:proxylessnas",
        summary="the paper's space: seven candidates for every block, with weights of their own",
    )
    register(
        "proxylessnas_elastic",
        "automl_nas_spaces.mobile.proxylessnas_elastic:proxylessnas_elastic",
        summary="once-for-all's space of ProxylessNAS: kernels, expansions and depths that share weights",
    )
    register(
        "vit",
        "automl_nas_spaces.vit:vit",
        summary="vision transformers of AutoFormer (tiny, small, base): embedding, heads, hidden widths, depth",
    )
    register(
        "convnext",
        "automl_nas_spaces.convnext:convnext",
        summary="ConvNeXt: width and depth of each stage, kernel and hidden width of each block",
    )
    register(
        "token_transformer",
        "automl_nas_spaces.token_transformer:token_transformer",
        summary="transformers for sequences of integer tokens: embedding, heads, hidden widths, depth",
    )
