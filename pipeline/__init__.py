"""The stages of `dvc.yaml`, a module for each, with the commands around them."""
