"""The live side: the reader of the stream, the read model, the ring of recent events, the WebSocket."""
