"""An identity provider of SAML 2.0 on pysaml2, for tests: whoever says a name is signed in as that user.

It knows a service provider by the metadata that is PUT to /service. It signs the Response alone, by RSA with SHA-512, where
Keycloak signs Assertions by RSA with SHA-256.
"""

import json
import os
import ssl
import sys
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, make_server

from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
from saml2.config import IdPConfig
from saml2.metadata import entity_descriptor
from saml2.saml import NAMEID_FORMAT_PERSISTENT, NameID
from saml2.server import Server
from saml2.xmldsig import DIGEST_SHA512, SIG_RSA_SHA512

SETTINGS = json.loads(os.environ["SETTINGS"])
URL = SETTINGS["url"]
AUTHN = {"class_ref": "urn:oasis:names:tc:SAML:2.0:ac:classes:Password", "authn_auth": URL}


def configuration():
    return {
        "entityid": f"{URL}/metadata",
        "service": {
            "idp": {
                "endpoints": {
                    "single_sign_on_service": [
                        (f"{URL}/sso", BINDING_HTTP_REDIRECT),
                        (f"{URL}/sso", BINDING_HTTP_POST),
                    ]
                },
                "policy": {
                    "default": {
                        "name_form": "urn:oasis:names:tc:SAML:2.0:attrname-format:uri",
                        "attribute_restrictions": None,
                        "lifetime": {"minutes": 5},
                    }
                },
                "name_id_format": [NAMEID_FORMAT_PERSISTENT],
                "want_authn_requests_signed": False,
            }
        },
        "key_file": SETTINGS["key"],
        "cert_file": SETTINGS["certificate"],
        "xmlsec_binary": SETTINGS["xmlsec"],
        "metadata": {},
    }


SERVER = Server(config=IdPConfig().load(configuration()))


def form(action, fields):
    inputs = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in fields.items())
    return f'<form method="post" action="{action}">{inputs}</form>'.encode()


def ask(message, binding, state):
    """The login page: it carries the request."""
    SERVER.parse_authn_request(message, binding)
    kind = "redirect" if binding == BINDING_HTTP_REDIRECT else "post"
    return form(f"{URL}/login", {"request": message, "kind": kind, "state": state})


def login(sent):
    """The page that makes the browser post the answer."""
    binding = BINDING_HTTP_REDIRECT if sent["kind"] == "redirect" else BINDING_HTTP_POST
    request = SERVER.parse_authn_request(sent["request"], binding)
    reply = SERVER.response_args(request.message, [BINDING_HTTP_POST])
    user = SETTINGS["users"][sent["name"]]
    response = SERVER.create_authn_response(
        {name: user[name] for name in ("mail", "uid", "eduPersonAffiliation")},
        userid=sent["name"],
        name_id=NameID(format=NAMEID_FORMAT_PERSISTENT, text=user["id"]),
        authn=AUTHN,
        sign_response=True,
        sign_assertion=False,
        sign_alg=SIG_RSA_SHA512,
        digest_alg=DIGEST_SHA512,
        in_response_to=reply["in_response_to"],
        destination=reply["destination"],
        sp_entity_id=reply["sp_entity_id"],
    )
    info = SERVER.apply_binding(BINDING_HTTP_POST, str(response), reply["destination"], sent["state"], response=True)
    return info["data"].encode()


def answer(environ):
    size = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(size).decode()
    asked = (environ["REQUEST_METHOD"], environ["PATH_INFO"])
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    if asked == ("GET", "/metadata"):
        return str(entity_descriptor(SERVER.config)).encode()
    if asked == ("PUT", "/service"):
        SERVER.metadata.load("inline", body)
        return b"known"
    sent = {name: values[0] for name, values in parse_qs(body).items()}
    if asked == ("GET", "/sso"):
        return ask(query["SAMLRequest"], BINDING_HTTP_REDIRECT, query["RelayState"])
    if asked == ("POST", "/sso"):
        return ask(sent["SAMLRequest"], BINDING_HTTP_POST, sent["RelayState"])
    if asked == ("POST", "/login"):
        return login(sent)
    return None


def application(environ, start_response):
    page = answer(environ)
    start_response("404 Not Found" if page is None else "200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [page or b""]


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


if __name__ == "__main__":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SETTINGS["tls_certificate"], SETTINGS["tls_key"])
    server = make_server("127.0.0.1", SETTINGS["port"], application, handler_class=Quiet)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ready", file=sys.stderr)
    server.serve_forever()
