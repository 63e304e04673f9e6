"""HTTP/1.1 and HTTP/2 towards the clients, plain ASGI towards the application."""
