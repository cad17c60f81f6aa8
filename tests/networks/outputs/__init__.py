"""Networks whose output is no score per class, against autograd on the live torch network."""
