"""The exporter `package`: a folder with the network in several formats that needs nothing of this framework."""
