"""A network that looks along time, with batch norm or group norm, on moving things."""
