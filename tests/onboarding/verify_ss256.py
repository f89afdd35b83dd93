"""Checks signed configurations.

  verify_ss256.py VECTORS.json    the vectors: those to accept and those to reject; prints ok
  verify_ss256.py - < TOKENS      one token a line; prints ok or the reason for each
"""
import hashlib, json, sys
from ss256 import u, verify
if sys.argv[1] == '-':
    for line in sys.stdin:
        try: verify(line.strip())
        except (AssertionError, ValueError, KeyError) as e: print('refused:', e or type(e).__name__)
        else: print('ok')
    raise SystemExit
d = json.load(open(sys.argv[1]))
for r in d['accept']:
    verify(r['token']); body = json.dumps({'token': r['token'], 'vins': r['vins']}, separators=(',', ':')).encode()
    assert hashlib.sha256(body).hexdigest() == r['upstream_body_sha256'] and u(r['token'].split('.')[1]).decode() == r['payload']
for r in d['reject']:
    try: verify(r['token'])
    except AssertionError: continue
    raise SystemExit('accepted: ' + r['name'])
print('ok')
