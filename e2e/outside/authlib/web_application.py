"""A web application as Authlib's documentation has it: Flask, and Authlib's registry of providers.

Discovery, state, nonce, PKCE and the checks of the ID token are the library's; here stand its settings alone.
"""

import secrets
from urllib.parse import urlsplit

from authlib.integrations.flask_client import OAuth
from flask import Flask, jsonify, url_for

from conversation import settings

application = Flask(__name__)
application.testing = True  # errors reach whoever called
application.secret_key = secrets.token_bytes(32)
at = urlsplit(settings["redirect_uri"])
application.config.update(SERVER_NAME=at.netloc, PREFERRED_URL_SCHEME=at.scheme)

oauth = OAuth(application)
provider = oauth.register(
    "claviger",
    client_id=settings["client_id"],
    client_secret=settings["client_secret"],
    server_metadata_url=settings["issuer"] + "/.well-known/openid-configuration",
    client_kwargs={"scope": settings["scope"], "code_challenge_method": "S256"},
)


@application.get("/login")
def login():
    return provider.authorize_redirect(url_for("callback", _external=True))


@application.get(at.path or "/")
def callback():
    return jsonify(provider.authorize_access_token())
