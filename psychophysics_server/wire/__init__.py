"""What browsers and the server say to each other (docs/wire.md), and the chain that both keep over it."""
