"""The server that hosts studies and holds each acknowledged response."""
