"""The contract of `oneoff.drivers.driver`, as tests over any driver. Collected by tests/drivers/test_contract.py."""
