"""Subscribes to everything at a ZeroMQ PUB socket and prints what comes: topic and payload, in hexadecimal.

Arguments: endpoint, then, for CURVE, the server's public key, and this client's public and secret key.
With "keys" it prints a fresh pair instead.
"""

import sys

import zmq


def keys():
    public, secret = zmq.curve_keypair()
    print(public.decode(), secret.decode())


def subscribe(endpoint, server=None, public=None, secret=None):
    socket = zmq.Context().socket(zmq.SUB)
    # Nothing of what the tests send is dropped here.
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.RECONNECT_IVL, 20)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    if server:
        socket.curve_serverkey = server.encode()
        socket.curve_publickey = public.encode()
        socket.curve_secretkey = secret.encode()
    socket.connect(endpoint)
    while True:
        frames = socket.recv_multipart()
        print(" ".join(frame.hex() for frame in frames), flush=True)


keys() if sys.argv[1] == "keys" else subscribe(*sys.argv[1:])
