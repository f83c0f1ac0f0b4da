"""What is learnt: datasets as tensors on the device, splits, batches, augmentation.

`base` says what a dataset is, `datasets` holds the options, `tensors.load_data` turns one into splits on the
device, and `batches.Batches` draws from them. Importing `base` or the options costs no torch, so nothing is
re-exported here.
"""
