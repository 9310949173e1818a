"""The U-Nets, their model packages and the devices that they run on."""
