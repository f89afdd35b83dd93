"""A vehicle maker for tests: sign-in, tokens and the Fleet API, over TLS, with nothing but Python's own library.

  fake_fleet_api.py --port N --cert FILE --key FILE --public-key-url URL

It prints `ready` once it serves. It verifies every token, every signature and every configuration as the maker is known
to, keeps consent, pairing and configurations per vehicle, and writes down every request (GET /_fake/requests). Through
POST /_fake/case {"endpoint": E, "case": C, "times": N} one endpoint misbehaves: html, hang, hang_after, 401, 403, 412,
421 (with "base"), 429 (with "seconds"), 500, skipped, null_config. POST /_fake/state merges into its state, GET shows it.
"""
import argparse, base64, hashlib, html, json, os, secrets, ssl, threading, time, urllib.parse, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import ss256

# A public test key: it signs nothing but the tokens of this program.
RSA_P = int('ebbccc9f4c5b000be63daaef49b4f753d0e6592e10ecd029ebf73a1a018c2388aeff0c5b17cc37fa718e3937f38b6509d5f1a3b4e603b955a0e0e28f890ffa2773547ef336f9c0af48c27f9ddcfefb2e24966a7fc1400aa8d596ad649e32dea0c9bbbdaaadd2498412a1c1080bfb37d0814df988a7b028d7eba1cab2718ed799', 16)
RSA_Q = int('fd96b3555875b49e75b07d4507037ce244d2947da54455910f0189c5fa410c76a87acda648a50f241a22f72fba67b6cfa7e837b48d0724b411bab0580b857de5d39f06d30a2202191304439b064c55ff77ebb52318f26ec200d5359b44f9cc6a290eb97e631052416f2fd2a059c7db8f02a107e8fd99ba9070d367ba1f8c2f15', 16)
RSA_N, RSA_E = RSA_P * RSA_Q, 65537
RSA_D = pow(RSA_E, -1, (RSA_P - 1) * (RSA_Q - 1))
SHA256_PREFIX = bytes.fromhex('3031300d060960864801650304020105000420')

b64 = lambda b: base64.urlsafe_b64encode(b).rstrip(b'=').decode()
LOCK = threading.RLock()
REQUESTS = []
CASES = {}
STATE = {
    'client_id': 'test-client', 'client_secret': 'test-secret', 'registered': {}, 'codes': {}, 'refresh': {}, 'last_refresh': {},
    'consent': {}, 'configs': {}, 'paired': [], 'errors': [], 'token_seconds': 28800, 'grace': True, 'max_configs': [],
    'offline_vehicles': [],
    'vehicles': {'owner-1': [
        {'vin': '5YJ3E1EA1KF000001', 'display_name': 'Red', 'access_type': 'OWNER'},
        {'vin': '7SAYGDEF9NF000002', 'display_name': 'Blue', 'access_type': 'DRIVER'}]},
    'info': {},
}
SCOPES = ['openid', 'offline_access', 'user_data', 'vehicle_device_data', 'vehicle_location', 'vehicle_cmds']
NAMES = set()


def jwt(claims):
    message = b64(json.dumps({'alg': 'RS256', 'typ': 'JWT', 'kid': 'test'}).encode()) + '.' + b64(json.dumps(claims).encode())
    digest = SHA256_PREFIX + hashlib.sha256(message.encode()).digest()
    padded = b'\0\1' + b'\xff' * (256 - 3 - len(digest)) + b'\0' + digest
    return message + '.' + b64(pow(int.from_bytes(padded, 'big'), RSA_D, RSA_N).to_bytes(256, 'big'))


class Refuse(Exception):
    def __init__(self, status, error, description=''):
        self.status, self.body = status, {'response': None, 'error': error, 'error_description': description}


class Maker(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args):
        pass

    def base(self):
        return f'https://{self.headers["Host"]}'

    def send(self, status, body, kind='application/json', headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if kind == 'application/json' else body.encode()
        self.send_response(status)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def page(self, title, body):
        style = 'body{font:16px sans-serif;max-width:30em;margin:2em auto;padding:0 1em}button{font:inherit;padding:.5em 1em}'
        self.send(200, f'<!doctype html><html lang=en><meta name=viewport content="width=device-width"><title>{title}</title>'
                       f'<style>{style}</style><h1>{title}</h1>{body}', 'text/html; charset=utf-8')

    def do(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        raw = self.rfile.read(int(self.headers.get('Content-Length') or 0)) if not self.headers.get('Transfer-Encoding') else b''
        try:
            if url.path.startswith('/_fake/'):
                return self.control(url.path, raw)
            endpoint = self.endpoint(url.path)
            with LOCK:
                REQUESTS.append({'method': self.command, 'path': self.path, 'endpoint': endpoint, 'body': raw.decode(errors='replace'),
                                 'headers': dict(self.headers.items()), 'at': time.time()})
                case = CASES.get(endpoint)
                if case:
                    case['times'] -= 1
                    if case['times'] <= 0:
                        del CASES[endpoint]
            if case and self.misbehave(case):
                return
            getattr(self, endpoint)(url.path, query, raw, case or {})
        except Refuse as refusal:
            self.send(refusal.status, refusal.body)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass

    do_GET = do_POST = do_DELETE = do

    def misbehave(self, case):
        kind = case['case']
        if kind == 'html':
            self.send(case.get('status', 502), '<html><body>Bad gateway</body></html>', 'text/html')
        elif kind == 'hang':
            time.sleep(case.get('seconds', 60))
        elif kind == '401':
            raise Refuse(401, case.get('error', 'token expired (401)'))
        elif kind == '403':
            raise Refuse(403, case.get('error', 'Unauthorized missing scopes [vehicle_location]'))
        elif kind == '412':
            raise Refuse(412, 'Account test-client must be registered in the current region')
        elif kind == '421':
            raise Refuse(421, f'user out of region, use base URL: {case["base"]}')
        elif kind == '429':
            headers = [('Retry-After', str(case['seconds']))] if 'seconds' in case else []
            self.send(429, {'error': 'rate limit exceeded'}, headers=headers)
        elif kind == '500':
            raise Refuse(500, 'internal server error')
        else:
            return False
        return True

    def endpoint(self, path):
        names = {
            '/oauth2/v3/authorize': 'authorize', '/oauth2/v3/token': 'token', '/user/revoke/consent': 'revoke',
            '/oauth2/v3/discovery/thirdparty/keys': 'keys', '/api/1/partner_accounts': 'partner_accounts',
            '/api/1/partner_accounts/public_key': 'public_key', '/api/1/vehicles': 'vehicles', '/api/1/users/region': 'region',
            '/api/1/vehicles/fleet_status': 'fleet_status', '/api/1/vehicles/fleet_telemetry_config_jws': 'push',
            '/api/1/vehicles/fleet_telemetry_config': 'unsigned',
        }
        if path in names:
            return names[path]
        if path.startswith('/_ak/'):
            return 'pair'
        if path.startswith('/api/1/vehicles/') and path.endswith('/fleet_telemetry_config'):
            return 'config'
        if path.startswith('/api/1/vehicles/') and path.endswith('/fleet_telemetry_errors'):
            return 'errors'
        return 'nothing'

    # What tests turn.

    def control(self, path, raw):
        with LOCK:
            if path == '/_fake/requests':
                return self.send(200, REQUESTS)
            if path == '/_fake/case':
                case = json.loads(raw)
                CASES[case['endpoint']] = {'times': 1} | case
            elif path == '/_fake/state' and self.command == 'POST':
                STATE.update(json.loads(raw))
            self.send(200, STATE)

    # Sign-in.

    def authorize(self, path, query, raw, case):
        form = dict(urllib.parse.parse_qsl(raw.decode())) if self.command == 'POST' else query
        if form.get('client_id') != STATE['client_id'] or form.get('response_type') != 'code':
            raise Refuse(400, 'unauthorized_client')
        wanted = form.get('scope', '').split()
        if self.command == 'GET':
            hidden = ''.join(f'<input type=hidden name="{html.escape(k)}" value="{html.escape(v)}">' for k, v in query.items())
            boxes = ''.join(f'<p><label><input type=checkbox name="allow_{s}" value=1> {s}</label>' for s in wanted
                            if s not in ('openid', 'offline_access'))
            return self.page('Allow access?', f'<form method=post>{hidden}{boxes}<p><button id=all type=button onclick="document.'
                             f'querySelectorAll(\'[type=checkbox]\').forEach(b=>b.checked=true)">Select All</button> '
                             f'<button id=allow name=answer value=allow>Allow</button> <button name=answer value=deny>Deny</button></form>')
        back = form['redirect_uri'] + '?' + urllib.parse.urlencode({'state': form.get('state', ''), 'locale': 'en-US'})
        if form.get('answer') != 'allow':
            return self.send(302, '', 'text/plain', [('Location', back + '&error=access_denied')])
        sub = form.get('owner', 'owner-1')
        allowed = [s for s in wanted if s in ('openid', 'offline_access') or form.get('allow_' + s)]
        code = 'NA_' + secrets.token_hex(16)
        with LOCK:
            STATE['consent'][sub] = allowed
            STATE['codes'][code] = {'sub': sub, 'challenge': form.get('code_challenge'), 'redirect_uri': form['redirect_uri']}
        self.send(302, '', 'text/plain', [('Location', f'{back}&code={code}&issuer={self.base()}/oauth2/v3/nts')])

    def token(self, path, query, raw, case):
        form = dict(urllib.parse.parse_qsl(raw.decode()))
        if form.get('client_id') != STATE['client_id']:
            raise Refuse(400, 'unauthorized_client')
        if form.get('grant_type') != 'refresh_token' and form.get('client_secret') != STATE['client_secret']:
            raise Refuse(401, 'unauthorized_client', 'wrong secret')
        with LOCK:
            answer = getattr(self, 'grant_' + form.get('grant_type', 'none'), self.grant_none)(form)
        if case.get('case') == 'hang_after':
            time.sleep(case.get('seconds', 60))
        self.send(200, answer)

    def grant_none(self, form):
        raise Refuse(400, 'unsupported_grant_type')

    def grant_client_credentials(self, form):
        now = int(time.time())
        claims = {'azp': STATE['client_id'], 'sub': 'partner', 'gty': 'client-credentials', 'aud': form.get('audience'), 'iat': now, 'exp': now + 28800}
        return {'access_token': jwt(claims), 'expires_in': 28800, 'token_type': 'Bearer'}

    def grant_authorization_code(self, form):
        code = STATE['codes'].pop(form.get('code'), None)
        if not code or code['redirect_uri'] != form.get('redirect_uri'):
            raise Refuse(400, 'invalid_auth_code')
        if code['challenge'] and b64(hashlib.sha256(form.get('code_verifier', '').encode()).digest()) != code['challenge']:
            raise Refuse(400, 'invalid_auth_code', 'code_verifier')
        return self.owner_tokens(code['sub'])

    def grant_refresh_token(self, form):
        given = form.get('refresh_token')
        sub = STATE['refresh'].get(given)
        if not sub and STATE['grace']:
            sub = next((s for s, t in STATE['last_refresh'].items() if t == given), None)
        if not sub:
            raise Refuse(401, 'login_required', 'The refresh_token is expired')
        if sub not in STATE['consent']:
            raise Refuse(401, 'login_required', 'User revoked the consent')
        STATE['refresh'] = {t: s for t, s in STATE['refresh'].items() if s != sub}
        STATE['last_refresh'][sub] = given
        return self.owner_tokens(sub)

    def owner_tokens(self, sub):
        now = int(time.time())
        claims = {'iss': self.base() + '/oauth2/v3/nts', 'azp': STATE['client_id'], 'sub': sub, 'aud': [self.base()], 'scp': STATE['consent'][sub],
                  'ou_code': 'NA', 'iat': now, 'exp': now + STATE['token_seconds'], 'jti': secrets.token_hex(4)}
        refresh = 'NA_refresh_' + secrets.token_hex(16)
        STATE['refresh'][refresh] = sub
        return {'access_token': jwt(claims), 'refresh_token': refresh, 'expires_in': STATE['token_seconds'], 'token_type': 'Bearer'}

    def keys(self, path, query, raw, case):
        self.send(200, {'keys': [{'kty': 'RSA', 'alg': 'RS256', 'use': 'sig', 'kid': 'test', 'n': b64(RSA_N.to_bytes(256, 'big')), 'e': 'AQAB'}]})

    def revoke(self, path, query, raw, case):
        if self.command == 'GET':
            return self.page('Manage access', '<form method=post><button id=revoke>Remove access</button></form>')
        with LOCK:
            STATE['consent'].pop('owner-1', None)
            STATE['configs'].clear()
        self.page('Removed', '<p>The application has no access any more.')

    def pair(self, path, query, raw, case):
        domain, vin = path.split('/')[2], query.get('vin', '')
        if self.command == 'GET':
            return self.page('Finish setup', f'<p>{html.escape(domain)} wants a key of {html.escape(vin)}.<form method=post><button id=approve>Approve</button></form>')
        with LOCK:
            if vin not in STATE['paired']:
                STATE['paired'].append(vin)
        self.page('Done', '<p>The key was added. Go back to the application.')

    # The API.

    def bearer(self):
        given = (self.headers.get('Authorization') or '').removeprefix('Bearer ')
        try:
            head, payload, signature = given.split('.')
            number = pow(int.from_bytes(base64.urlsafe_b64decode(signature + '=='), 'big'), RSA_E, RSA_N).to_bytes(256, 'big')
            assert number.endswith(SHA256_PREFIX + hashlib.sha256(f'{head}.{payload}'.encode()).digest())
            claims = json.loads(base64.urlsafe_b64decode(payload + '=='))
        except Exception:
            raise Refuse(401, 'invalid bearer token')
        if claims['exp'] <= time.time():
            raise Refuse(401, 'token expired (401)')
        return claims

    def partner(self):
        claims = self.bearer()
        if claims.get('gty') != 'client-credentials':
            raise Refuse(403, 'a partner token is needed')
        return claims

    def owner(self, *scopes):
        claims = self.bearer()
        if claims['sub'] not in STATE['consent']:
            raise Refuse(401, 'User revoked consent')
        missing = [s for s in scopes if s not in claims['scp']]
        if missing:
            raise Refuse(403, f'Unauthorized missing scopes [{" ".join(missing)}]')
        return claims['sub']

    def owned(self, sub, vin):
        vehicle = next((v for v in STATE['vehicles'].get(sub, []) if v['vin'] == vin), None)
        if not vehicle:
            raise Refuse(404, f'{vin} not_found')
        return vehicle

    def partner_accounts(self, path, query, raw, case):
        self.partner()
        domain = json.loads(raw)['domain']
        try:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            pem = urllib.request.urlopen(OPTIONS.public_key_url, timeout=5, context=context).read().decode()
            der = base64.b64decode(''.join(pem.strip().splitlines()[1:-1]))
            ss256.point(der[-64:])
        except Exception:
            raise Refuse(424, 'Public key download failed')
        STATE['registered'][domain] = der[-65:].hex()
        self.send(200, {'response': {'domain': domain, 'client_id': STATE['client_id'], 'public_key': der[-65:].hex()}})

    def public_key(self, path, query, raw, case):
        self.partner()
        if query.get('domain') not in STATE['registered']:
            raise Refuse(404, 'not_found')
        self.send(200, {'response': {'public_key': STATE['registered'][query['domain']]}})

    def region(self, path, query, raw, case):
        self.owner()
        self.send(200, {'response': {'region': 'na', 'fleet_api_base_url': STATE.get('region_base') or self.base()}})

    def vehicles(self, path, query, raw, case):
        owned = STATE['vehicles'].get(self.owner(), [])
        size, page = STATE.get('page_size', 100), int(query.get('page', 1))
        more = len(owned) > size * page
        self.send(200, {'response': owned[size * (page - 1):size * page], 'count': len(owned), 'pagination': {'next': page + 1 if more else None}})

    def fleet_status(self, path, query, raw, case):
        sub = self.owner('vehicle_device_data')
        vins = json.loads(raw)['vins']
        for vin in vins:
            self.owned(sub, vin)
        paired = [v for v in vins if v in STATE['paired']]
        info = {v: {'firmware_version': '2026.32', 'vehicle_command_protocol_required': True, 'discounted_device_data': False,
                    'fleet_telemetry_version': '1.3.0', 'total_number_of_keys': 3, 'safety_screen_streaming_toggle_enabled': None}
                | STATE['info'].get(v, {}) for v in vins}
        self.send(200, {'response': {'key_paired_vins': paired, 'unpaired_vins': [v for v in vins if v not in paired], 'vehicle_info': info}})

    def unsigned(self, path, query, raw, case):
        raise Refuse(400, 'This endpoint must be called through the Vehicle Command HTTP Proxy')

    def push(self, path, query, raw, case):
        body = json.loads(raw)
        try:
            ss256.verify(body['token'])
        except Exception as error:
            raise Refuse(400, f'invalid token: {error}')
        config = json.loads(ss256.u(body['token'].split('.')[1]))
        fields = config.get('fields', {})
        scopes = ['vehicle_device_data'] + (['vehicle_location'] if 'Location' in fields else [])
        sub = self.owner(*scopes)
        if base64.b64decode(config['iss']).hex() not in STATE['registered'].values():
            raise Refuse(412, 'Account must be registered in the current region')
        if '-----BEGIN CERTIFICATE-----' not in config.get('ca', ''):
            raise Refuse(400, 'ca is not a valid PEM')
        if not isinstance(config.get('port'), int):
            raise Refuse(400, 'invalid_field', 'port')
        for name in fields:
            if NAMES and name not in NAMES:
                raise Refuse(400, f'Unknown field {name}')
        skipped = {'missing_key': [], 'unsupported_hardware': [], 'unsupported_firmware': [], 'max_configs': []}
        updated = 0
        with LOCK:
            for vin in body['vins']:
                vehicle = self.owned(sub, vin)
                if 'Location' in fields and vehicle.get('granular_access', {}).get('hide_private'):
                    raise Refuse(403, 'location access not granted')
                info = STATE['info'].get(vin, {})
                if case.get('case') == 'skipped' or (vin not in STATE['paired'] and info.get('vehicle_command_protocol_required', True)):
                    skipped['missing_key'].append(vin)
                elif vin in STATE['max_configs']:
                    skipped['max_configs'].append(vin)
                else:
                    STATE['configs'][vin] = config
                    updated += 1
        self.send(200, {'response': {'updated_vehicles': updated, 'skipped_vehicles': skipped}})

    def config(self, path, query, raw, case):
        vin = path.split('/')[4]
        claims = self.bearer()
        if claims.get('gty') != 'client-credentials':
            self.owned(self.owner('vehicle_device_data'), vin)
        with LOCK:
            if self.command == 'DELETE':
                gone = STATE['configs'].pop(vin, None)
                return self.send(200, {'response': {'updated_vehicles': 1 if gone else 0}})
            config = None if case.get('case') == 'null_config' else STATE['configs'].get(vin)
            synced = vin not in STATE['offline_vehicles']
            self.send(200, {'response': {'synced': synced, 'config': config, 'limit_reached': vin in STATE['max_configs'],
                                         'key_paired': vin in STATE['paired']}})

    def errors(self, path, query, raw, case):
        vin = path.split('/')[4]
        self.owned(self.owner('vehicle_device_data'), vin)
        self.send(200, {'response': {'fleet_telemetry_errors': [e for e in STATE['errors'] if e.get('vin') == vin]}})

    def nothing(self, path, query, raw, case):
        raise Refuse(404, 'not_found')


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def finish_request(self, request, address):
        try:
            super().finish_request(CONTEXT.wrap_socket(request, server_side=True), address)
        except (OSError, ssl.SSLError):
            pass


options = argparse.ArgumentParser()
options.add_argument('--port', type=int, required=True)
options.add_argument('--cert', required=True)
options.add_argument('--key', required=True)
options.add_argument('--public-key-url', default='')
OPTIONS = options.parse_args()
for line in open(os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../proto/vehicle_data.proto')):
    # The first enum is that of the fields.
    if line.startswith('}') and NAMES:
        break
    parts = line.split()
    if len(parts) >= 3 and parts[1] == '=' and parts[2].rstrip(';').isdigit():
        NAMES.add(parts[0])
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
CONTEXT.load_cert_chain(OPTIONS.cert, OPTIONS.key)
server = Server(('127.0.0.1', OPTIONS.port), Maker)
print('ready', server.server_port, flush=True)
server.serve_forever()
