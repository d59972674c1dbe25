"""gRPC over HTTP/2 for the server's side of the wire API: requests of one message, answers of one or of many.

It is here, and not a library, because most of a short call's time was spent in the layers of one that serves all of HTTP/2:
docs/decisions/039.
"""
