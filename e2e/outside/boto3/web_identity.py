"""A workload with an ID token in a file and the name of a role: AWS's SDK does the rest, as it does in a cluster of AWS."""

import os
import pathlib

import boto3

from conversation import done, settings

BUCKET = "reports"
os.environ.update(AWS_ENDPOINT_URL=settings["endpoint"], AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true")

access_key, secret_key = settings["root"]
root = boto3.Session(aws_access_key_id=access_key, aws_secret_access_key=secret_key)
root.client("s3").create_bucket(Bucket=BUCKET)

token = pathlib.Path("token")
token.write_text(settings["id_token"])
os.environ.update(AWS_ROLE_ARN=settings["role"], AWS_WEB_IDENTITY_TOKEN_FILE=str(token), AWS_ROLE_SESSION_NAME="story")
workload = boto3.Session()
s3 = workload.client("s3")
s3.put_object(Bucket=BUCKET, Key="today", Body=b"all is well")

# The same once more by hand, for what the answer says.
answer = boto3.client("sts").assume_role_with_web_identity(
    RoleArn=settings["role"], RoleSessionName="story", WebIdentityToken=settings["id_token"]
)

done(
    {
        "method": workload.get_credentials().method,
        "keys": [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]],
        "got": s3.get_object(Bucket=BUCKET, Key="today")["Body"].read().decode(),
        "subject": answer["SubjectFromWebIdentityToken"],
    }
)
