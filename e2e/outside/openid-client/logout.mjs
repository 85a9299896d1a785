// RP-initiated logout as the library asks for it, in the browser that signed in; and what the session is worth afterwards.
import * as client from 'openid-client'
import { ask, done, refusal, settings } from './conversation.mjs'
import { attempt, discover } from './relying-party.mjs'

const config = await discover()
const signingIn = await attempt(config)
const { url: landed } = await ask({ sign_in: signingIn.url.href })
const tokens = await client.authorizationCodeGrant(config, new URL(landed), signingIn.checks)

// A second request in the same browser, answered without a question; its code is still out when the user signs out.
const silent = await attempt(config, { prompt: 'none', scope: 'openid' })
const { url: underWay } = await ask({ open: silent.url.href })

const state = client.randomState()
const endSession = client.buildEndSessionUrl(config, {
  id_token_hint: tokens.id_token,
  post_logout_redirect_uri: settings.post_logout_redirect_uri,
  state,
})
const { url: goodbye } = await ask({ open: endSession.href })

const late = await refusal(() => client.authorizationCodeGrant(config, new URL(underWay), silent.checks))
const again = await attempt(config, { prompt: 'none', scope: 'openid' })
const { url: unknown } = await ask({ open: again.url.href })
done({
  sid: tokens.claims().sid,
  metadata: config.serverMetadata(),
  goodbye,
  state,
  late,
  unknown: new URL(unknown).searchParams.get('error'),
})
