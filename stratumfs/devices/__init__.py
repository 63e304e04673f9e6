"""What a device is, how it fares, what room it has."""
