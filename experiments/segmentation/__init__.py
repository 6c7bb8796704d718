"""A U-Net in two and three dimensions, with batch norm or group norm, on a brain."""
