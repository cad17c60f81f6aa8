"""What `scripts/check_edge` is made of: a program for the device, the limit on its memory, and an aarch64 system to emulate."""
