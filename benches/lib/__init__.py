"""What benches/run is made of: the machine, servers, figures, and the sections."""
