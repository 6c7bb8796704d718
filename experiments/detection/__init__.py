"""A detector whose norm is batch norm, frozen batch norm or group norm, on trees."""
