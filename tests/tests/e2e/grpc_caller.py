"""Calls creto.authz.v1.Authz as a program that knows nothing but its .proto file.

    grpc_caller.py ADDRESS PROTO_FOLDER

Reads one call a line from standard input and writes one answer a line, as JSON:

    {"method": "Check", "token": "...", "request": {...}, "timeout": 5, "proof": "..."}
    {"answer": {...}, "metadata": {...}}
    {"status": "NOT_FOUND", "message": "...", "details": {...}, "metadata": {...}}
"""

import json
import sys
import tempfile
from importlib import import_module, resources

import grpc
from google.protobuf import json_format
from grpc_status import rpc_status
from grpc_tools import protoc

FILE = "creto/authz/v1/authz.proto"


def compiled(folder):
    """What the official generator makes of the .proto file."""
    out = tempfile.mkdtemp()
    known = str(resources.files("grpc_tools").joinpath("_proto"))
    words = ["protoc", f"-I{folder}", f"-I{known}", f"--python_out={out}",
             f"--grpc_python_out={out}", FILE]
    if protoc.main(words) != 0:
        sys.exit("protoc refused the .proto file")
    sys.path.insert(0, out)
    module = "creto.authz.v1.authz_pb2"
    return import_module(module), import_module(module + "_grpc")


def details(error):
    """The google.rpc details of a status, by the name of their type."""
    status = rpc_status.from_call(error)
    if status is None:
        return {}
    # Registers the types of the details.
    import_module("google.rpc.error_details_pb2")
    found = (json_format.MessageToDict(any_) for any_ in status.details)
    return {one.pop("@type").rsplit(".", 1)[1]: one for one in found}


def text(metadata):
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def main():
    address, folder = sys.argv[1:]
    messages, services = compiled(folder)
    service = messages.DESCRIPTOR.services_by_name["Authz"]
    with grpc.insecure_channel(address) as channel:
        stub = services.AuthzStub(channel)
        for line in sys.stdin:
            call = json.loads(line)
            name = service.methods_by_name[call["method"]].input_type.name
            request = json_format.ParseDict(call["request"], getattr(messages, name)())
            token = call.get("token")
            metadata = (("authorization", f"Bearer {token}"),) if token else ()
            if "proof" in call:
                metadata = (("authorization", f"DPoP {token}"), ("dpop", call["proof"]))
            try:
                answer, rpc = getattr(stub, call["method"]).with_call(
                    request, timeout=call.get("timeout", 30), metadata=metadata)
                said = {
                    "answer": json_format.MessageToDict(
                        answer, preserving_proto_field_name=True),
                    "metadata": text(rpc.initial_metadata()),
                }
            except grpc.RpcError as error:
                said = {
                    "status": error.code().name,
                    "message": error.details(),
                    "details": details(error),
                    "metadata": text(error.initial_metadata()) | text(error.trailing_metadata()),
                }
            print(json.dumps(said), flush=True)


main()
