"""What a browser reaches: pages, routes and files, and what every request must keep to."""
