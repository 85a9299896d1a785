// One browser, asked again: silently, with a new sign-in demanded, and for somebody else.
import * as client from 'openid-client'
import { ask, done, refusal } from './conversation.mjs'
import { attempt, discover } from './relying-party.mjs'

const config = await discover()

// `how` says what the story's one browser is to do; the answer is checked by the library.
async function signIn(how, parameters) {
  const { url, checks } = await attempt(config, parameters)
  const { url: landed } = await ask({ [how]: url.href })
  return client.authorizationCodeGrant(config, new URL(landed), { ...checks, maxAge: parameters.max_age })
}

const stranger = await refusal(() => signIn('silently', { prompt: 'none' }))
const first = await signIn('sign_in', {})
const silent = await signIn('silently', { prompt: 'none', id_token_hint: first.id_token })
const stale = await refusal(() => signIn('silently', { prompt: 'none', max_age: 0 }))
const again = await signIn('sign_in', { prompt: 'login', max_age: 60 })

done({ stranger, stale, first: first.claims(), silent: silent.claims(), again: again.claims() })
