"""Tesla.SS256 with nothing but Python's own numbers: an independent oracle for src/onboarding."""
import base64, hashlib, json
P = 0xffffffff00000001000000000000000000000000ffffffffffffffffffffffff
N = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551
B = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b
G = (0x6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296,
     0x4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5)
def add(a, b):
    if a is None or b is None: return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0: return None
    s = (3*a[0]*a[0] - 3) * pow(2*a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (s*s - a[0] - b[0]) % P
    return x, (s*(a[0] - x) - a[1]) % P
def mul(k, p):
    r = None
    while k: r, p, k = (add(r, p) if k & 1 else r), add(p, p), k >> 1
    return r
def point(b):
    p = int.from_bytes(b[:32], 'big'), int.from_bytes(b[32:], 'big')
    assert max(p) < P and (p[1]**2 - p[0]**3 + 3*p[0] - B) % P == 0, 'not on the curve'
    return p
enc = lambda p: b'\4' + p[0].to_bytes(32, 'big') + p[1].to_bytes(32, 'big')
lp = lambda b: len(b).to_bytes(4, 'big') + b
u = lambda s: base64.urlsafe_b64decode(s + '=' * (-len(s) % 4))
def verify(token):
    h, p, s = token.split('.'); sig = u(s); msg = f'{h}.{p}'.encode()
    assert json.loads(u(h)) == {'alg': 'Tesla.SS256', 'typ': 'JWT'} and len(sig) == 96, 'header or length'
    iss = base64.b64decode(json.loads(u(p))['iss'], validate=True); assert len(iss) == 65 and iss[0] == 4
    a, v = point(iss[1:]), point(sig[:64])
    c = int.from_bytes(hashlib.sha256(lp(enc(G)) + lp(enc(v)) + lp(enc(a)) + lp(msg)).digest(), 'big')
    assert add(mul(c % N, a), mul(int.from_bytes(sig[64:], 'big') % N, G)) == v, 'signature'
