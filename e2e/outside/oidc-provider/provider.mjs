// panva's oidc-provider, a certified OpenID provider, as an upstream. Settings come as JSON in the environment:
// {issuer, port, certificate, key, client: {id, redirect_uris, metadata}}, where metadata is the rest of what it knows of the client. It rotates refresh tokens, asks for PKCE, and
// signs in whoever is in its list; a user of it is changed or taken away by what is sent to /users, a line of which is
// never followed by a browser.
import { createServer } from 'node:https';
import { readFileSync } from 'node:fs';
import Provider from 'oidc-provider';

const settings = JSON.parse(process.env.SETTINGS);
const users = new Map([
  ['ada', { email: 'ada@example.com', email_verified: true, name: 'Ada Lovelace', preferred_username: 'ada', groups: ['engineers'] }],
  ['bob', { email: 'bob@example.com', email_verified: false, name: 'Bob', preferred_username: 'bob', groups: ['visitors'] }],
]);

const provider = new Provider(settings.issuer, {
  clients: [{
    client_id: settings.client.id,
    ...settings.client.metadata,
    redirect_uris: settings.client.redirect_uris,
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
  }],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username', 'groups', 'department', 'suspended'] },
  conformIdTokenClaims: false,
  cookies: { keys: ['a-key-for-this-test'] },
  features: { devInteractions: { enabled: true } },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  async findAccount(_, sub) {
    return users.has(sub) ? { accountId: sub, claims: async () => ({ sub, ...users.get(sub) }) } : undefined;
  },
});

const answer = provider.callback();
createServer({ cert: readFileSync(settings.certificate), key: readFileSync(settings.key) }, (request, response) => {
  if (request.url !== '/users' || request.method !== 'PUT') return answer(request, response);
  let body = '';
  request.on('data', (chunk) => { body += chunk; });
  request.on('end', () => {
    const { sub, claims } = JSON.parse(body);
    if (claims === null) users.delete(sub); else users.set(sub, { ...users.get(sub), ...claims });
    response.writeHead(204).end();
  });
}).listen(settings.port, '127.0.0.1', () => console.log('listening'));
