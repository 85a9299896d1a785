// Authorization code with PKCE, userinfo, refresh; and what the library itself must find wrong.
import * as client from 'openid-client'
import { done, refusal, settings } from './conversation.mjs'
import { browse, discover } from './relying-party.mjs'

const config = await discover()
const { landed, checks } = await browse(config)

const elsewhere = new URL(landed)
elsewhere.searchParams.set('iss', 'https://somebody.else.example')
const mixedUp = await refusal(() => client.authorizationCodeGrant(config, elsewhere, checks))
const tokens = await client.authorizationCodeGrant(config, landed, checks)
const claims = tokens.claims()
const userinfo = await client.fetchUserInfo(config, tokens.access_token, claims.sub)

const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token)
const again = await refusal(() => client.authorizationCodeGrant(config, landed, checks))
const signedOut = await refusal(() => client.fetchUserInfo(config, refreshed.access_token, claims.sub))

done({
  metadata: config.serverMetadata(),
  scope: tokens.scope,
  token_type: tokens.token_type,
  expires_in: tokens.expires_in,
  claims,
  userinfo,
  refreshed: refreshed.claims(),
  rotated: refreshed.refresh_token !== tokens.refresh_token,
  mixed_up: mixedUp,
  replayed: again,
  signed_out: signedOut,
  asked_for: settings.scope,
})
