"""The data: datasets as tensors on the device, splits, batches, augmentation.

`base` defines datasets, `datasets` contains the options, `tensors.load_data` turns one into splits on the device, and
`batches.Batches` draws from them. Importing `base` or the options does not import torch, so nothing is re-exported
here.
"""
