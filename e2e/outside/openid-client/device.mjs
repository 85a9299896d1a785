// Device authorization (RFC 8628): one device that its user lets in, and one that is refused.
import * as client from 'openid-client'
import { ask, done, refusal, settings } from './conversation.mjs'
import { discover } from './relying-party.mjs'

const config = await discover(client.None())
const scope = 'openid email offline_access'

async function wait(decision) {
  const device = await client.initiateDeviceAuthorization(config, { scope })
  // The user decides while the device polls.
  const polling = client.pollDeviceAuthorizationGrant(config, device)
  polling.catch(() => {})
  await ask({ device, decision })
  return { device, polling }
}

const { device, polling } = await wait('approve')
const tokens = await polling
const claims = tokens.claims()
const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token)
const denied = await wait('deny')
const refused = await refusal(() => denied.polling)

done({
  endpoint: config.serverMetadata().device_authorization_endpoint,
  device: { ...device, device_code: undefined },
  claims,
  refreshed: refreshed.claims(),
  refused,
  client: settings.client_id,
})
