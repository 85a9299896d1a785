// A client nobody has made: it registers itself, lets a user sign in, changes what it said, and deletes itself.
import * as client from 'openid-client'
import { ask, done, refusal, settings } from './conversation.mjs'
import { attempt } from './relying-party.mjs'

const issuer = new URL(settings.issuer)
const metadata = {
  client_name: 'Registered',
  redirect_uris: [settings.redirect_uri],
  grant_types: ['authorization_code', 'refresh_token'],
  token_endpoint_auth_method: 'client_secret_post',
  policy_uri: 'https://localhost/policy',
  scope: settings.scope,
}
const stranger = await refusal(() => client.dynamicClientRegistration(issuer, metadata))
const elsewhere = await refusal(() =>
  client.dynamicClientRegistration(issuer, { ...metadata, redirect_uris: ['https://evil.example.com/'] }, undefined, {
    initialAccessToken: settings.initial,
  }),
)
await ask({ mark: 'registration' })
const config = await client.dynamicClientRegistration(issuer, metadata, client.ClientSecretPost(), {
  initialAccessToken: settings.initial,
})
const registered = config.clientMetadata()
await ask({ count: 'registration' })
client.enableNonRepudiationChecks(config)

const { url, checks } = await attempt(config)
const { url: landed } = await ask({ browse: url.href })
const tokens = await client.authorizationCodeGrant(config, new URL(landed), checks)

// RFC 7592 has no function in the library.
const manage = (method, body, token = registered.registration_access_token) =>
  fetch(registered.registration_client_uri, {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) },
    body: body && JSON.stringify(body),
  })
const read = await (await manage('GET')).json()
const changed = await manage('PUT', { ...read, client_name: 'Renamed' })
const renamed = await changed.json()
const foreign = await manage('DELETE', undefined, settings.initial)
await ask({ mark: 'deletion' })
const gone = await manage('DELETE')
await ask({ count: 'deletion' })
await ask({ gone: registered })
const afterwards = await refusal(() => client.refreshTokenGrant(config, tokens.refresh_token))
const readAfterwards = await manage('GET')

done({
  stranger,
  elsewhere,
  registered,
  claims: tokens.claims(),
  read,
  changed: changed.status,
  renamed,
  foreign: foreign.status,
  gone: gone.status,
  afterwards,
  read_afterwards: readAfterwards.status,
})
