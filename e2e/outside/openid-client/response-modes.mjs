// A code by a posted form, an ID token beside the code and alone in the fragment, and all of it checked by the library:
// state, nonce, iss, c_hash, s_hash, signatures.
import * as client from 'openid-client'
import { ask, done, settings } from './conversation.mjs'
import { attempt, discover } from './relying-party.mjs'

async function answered(url) {
  const { url: landed, form } = await ask({ browse: url.href })
  if (!form) return new URL(landed)
  return new Request(landed, { method: 'POST', body: new URLSearchParams(form) })
}

const byForm = await discover()
const posted = await attempt(byForm, { response_mode: 'form_post' })
const answer = await answered(posted.url)
const afterForm = await client.authorizationCodeGrant(byForm, answer, posted.checks)

const hybrid = await discover()
client.useCodeIdTokenResponseType(hybrid)
client.enableDetachedSignatureResponseChecks(hybrid)
const both = await attempt(hybrid)
const afterHybrid = await client.authorizationCodeGrant(hybrid, await answered(both.url), both.checks)

const implicit = await discover(client.None())
client.useIdTokenResponseType(implicit)
const nonce = client.randomNonce()
const state = client.randomState()
const alone = client.buildAuthorizationUrl(implicit, {
  redirect_uri: settings.redirect_uri,
  scope: 'openid email',
  nonce,
  state,
})
const claims = await client.implicitAuthentication(implicit, await answered(alone), nonce, { expectedState: state })

done({
  form: answer.method,
  by_form: afterForm.claims(),
  hybrid: { asked: both.url.searchParams.get('response_type'), claims: afterHybrid.claims() },
  implicit: claims,
})
