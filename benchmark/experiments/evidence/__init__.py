"""Measurements that the documentation quotes: parity, reliability, the certificate, the stride fix."""
