// A program on its own account: no user, no browser.
import * as client from 'openid-client'
import { done, refusal } from './conversation.mjs'
import { discover } from './relying-party.mjs'

const config = await discover()
const tokens = await client.clientCredentialsGrant(config, { scope: 'openid groups' })
const userinfo = await client.fetchUserInfo(config, tokens.access_token, client.skipSubjectCheck)
const tooMuch = await refusal(() => client.clientCredentialsGrant(config, { scope: 'openid offline_access' }))

done({ tokens, userinfo, too_much: tooMuch })
