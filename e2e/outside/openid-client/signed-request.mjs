// A client with a key finds the issuer as RFC 8414 has it, pushes its request (RFC 9126), and signs another (RFC 9101): a
// browser's address then says nothing, or nothing that could be changed.
import * as client from 'openid-client'
import { ask, done, settings } from './conversation.mjs'
import { browse, discover } from './relying-party.mjs'

const { privateKey, publicKey } = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
  'sign',
  'verify',
])
const { kty, crv, x, y } = await crypto.subtle.exportKey('jwk', publicKey)
await ask({ register: { kty, crv, x, y, alg: 'ES256', kid: 'first' } })

const key = { key: privateKey, kid: 'first' }
const config = await discover(client.PrivateKeyJwt(key), { algorithm: 'oauth2' })

async function signIn(build) {
  const { url, landed, checks } = await browse(config, {}, build)
  const tokens = await client.authorizationCodeGrant(config, landed, checks)
  return { asked: [...url.searchParams.keys()].sort(), claims: tokens.claims() }
}

done({
  client_id: settings.client_id,
  pushed: await signIn((config, parameters) => client.buildAuthorizationUrlWithPAR(config, parameters)),
  signed: await signIn((config, parameters) => client.buildAuthorizationUrlWithJAR(config, parameters, key)),
})
