"""Networks of inverted residual blocks (MBConv): the spaces of MobileNet, ProxylessNAS, FBNet and EfficientNet."""
