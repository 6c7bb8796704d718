"""The four norms at a batch that batch norm is at its best with."""
