// Tokens bound to a key of the application's: at the token endpoint, at the refresh and at userinfo, with the nonces the
// library is told; and what they are worth to somebody with another key.
import * as client from 'openid-client'
import { done, refusal, settings } from './conversation.mjs'
import { browse, discover } from './relying-party.mjs'

const config = await discover()
const mine = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))
const others = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))
const { landed, checks } = await browse(config)
const tokens = await client.authorizationCodeGrant(config, landed, checks, undefined, { DPoP: mine })
const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP: mine })
const { sub } = tokens.claims()
const userinfo = await client.fetchUserInfo(config, refreshed.access_token, sub, { DPoP: mine })
const asBearer = await refusal(() => client.fetchUserInfo(config, refreshed.access_token, sub))
const stolen = await refusal(() => client.fetchUserInfo(config, refreshed.access_token, sub, { DPoP: others }))

done({
  client_id: settings.client_id,
  token_type: refreshed.token_type,
  thumbprint: await mine.calculateThumbprint?.(),
  access_token: refreshed.access_token,
  userinfo,
  as_bearer: asBearer,
  stolen,
})
