"""Raw rows in, answers out: a network together with its standardization, its task and its labels."""
