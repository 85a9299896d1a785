// A client without a secret: it signs for each request, with a key it alone has; then its tokens are asked about and
// revoked, signed likewise.
import * as client from 'openid-client'
import { ask, done, refusal, settings } from './conversation.mjs'
import { attempt, discover } from './relying-party.mjs'

const { privateKey, publicKey } = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
  'sign',
  'verify',
])
const { kty, crv, x, y } = await crypto.subtle.exportKey('jwk', publicKey)
await ask({ register: { kty, crv, x, y, alg: 'ES256', kid: 'first' } })

const config = await discover(client.PrivateKeyJwt({ key: privateKey, kid: 'first' }))
const { url, checks } = await attempt(config)
const { url: landed } = await ask({ browse: url.href })
const tokens = await client.authorizationCodeGrant(config, new URL(landed), checks)
const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token)
const about = await client.tokenIntrospection(config, refreshed.access_token)
await client.tokenRevocation(config, refreshed.refresh_token)
const after = await client.tokenIntrospection(config, refreshed.access_token)
const revoked = await refusal(() => client.refreshTokenGrant(config, refreshed.refresh_token))

const secret = await discover(client.ClientSecretBasic('guess'))
const bySecret = await refusal(() => client.refreshTokenGrant(secret, refreshed.refresh_token))

done({
  client_id: settings.client_id,
  claims: tokens.claims(),
  active: about.active,
  about_client: about.client_id,
  active_after: after.active,
  revoked,
  by_secret: bySecret,
})
