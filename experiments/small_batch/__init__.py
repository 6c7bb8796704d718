"""Batch norm and group norm as the batch on each device shrinks."""
