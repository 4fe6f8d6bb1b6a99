"""Large transfers in shared memory: their copies take a way of their own (csrc/core/transport/shm.c)."""


def test_large_transfers_move_every_byte_and_no_other(launch):
    launch(2, "large.py")
